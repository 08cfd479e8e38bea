"""What a wire says in the place of an image or a file that it does not take, where no user can help it: a model made it."""

from allm.messages import FilePart, ImagePart

__all__ = ["unshown"]


def unshown(part: ImagePart | FilePart) -> str:
    """A word for it that the model reads."""
    kind, mime = ("an image", part.image.mime) if isinstance(part, ImagePart) else ("a file", part.mime)
    return f"({kind}{f' of type {mime}' if mime else ''} that cannot be shown here)"
