"""A model that somebody else edited, in the place of a method: what an audit evaluates against its base.

The weights of the checkpoint replace the base's, which must have the same architecture and the same tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from unlearn_cli.component import component
from unlearn_cli.edits.base import EVERY
from unlearn_cli.errors import UnlearnError
from unlearn_cli.methods.base import EditContext, EditData, EditReport, Method, Need

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@component
class Checkpoint(Method):
    """Takes every edit: whether the checkpoint's author made this one is for the reader to know."""

    VERSION: ClassVar[int] = 1
    takes: ClassVar[frozenset[str]] = EVERY
    at_once: ClassVar[bool] = True

    path: str = ""  # folder or hub name of the edited model

    @property
    def needs(self) -> frozenset[Need]:
        """No data."""
        return frozenset()

    def source(self) -> dict[str, str]:
        """What the checkpoint holds, in place of where it lies."""
        from unlearn_cli.models.folder import digest, found

        return {"path": digest(found(self.path, field="method.path"))}

    def edit(self, model: PreTrainedModel, data: EditData, context: EditContext) -> EditReport:
        """Copy its weights; an UnlearnError that names what differs where it is another architecture."""
        from unlearn_cli.models import checkpoint
        from unlearn_cli.models.folder import found

        theirs = checkpoint.given(found(self.path, field="method.path"), "method.path").state_dict()
        ours = model.state_dict()
        other = [name for name in ours if name not in theirs or theirs[name].shape != ours[name].shape]
        other += [name for name in theirs if name not in ours]
        if other:
            what = f"{other[0]} is {tuple(theirs[other[0]].shape) if other[0] in theirs else 'missing'} there"
            mine = f"{tuple(ours[other[0]].shape) if other[0] in ours else 'missing'} in the base"
            raise UnlearnError(f"method.path: {self.path} is no edit of this base: {what} and {mine}")
        model.load_state_dict({name: theirs[name].to(tensor.dtype) for name, tensor in ours.items()})
        return EditReport()
