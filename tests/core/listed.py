"""A module of a bot, as `allm.configure(importable=...)` lists one."""

import os
import subprocess
from os import getcwd
from typing import Any

__all__ = ["Desk", "brief", "getcwd", "look", "os", "subprocess"]


def look(city: str = "Oslo") -> str:
    return f"rain in {city}"


def brief(context: Any) -> str:
    return "Be brief."


class Desk:
    @staticmethod
    def look(city: str = "Oslo") -> str:
        return f"snow in {city}"


desk = Desk()
