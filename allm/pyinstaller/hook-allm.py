"""PyInstaller's hook for `allm`: see `allm.pyinstaller`."""

from allm.pyinstaller import hidden_imports

hiddenimports = hidden_imports()
