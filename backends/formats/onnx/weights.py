"""One file of weights for many ONNX graphs: equal tensors are written once, whatever a graph calls them."""

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

INLINE_BYTES = 1024  # smaller tensors stay in the graph
ALIGNMENT = 4096  # so that a runtime can map the file into memory


class SharedWeights:
    """Saves ONNX models whose larger tensors lie in one file beside them. A context manager.

    Args:
        path: the file of weights; models are saved in the same folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}  # digest to offset and length
        self._file = path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def save(self, model: Any, path: Path) -> None:
        """Write an `onnx_ir` model, its tensors moved to the shared file."""
        import onnx_ir as ir

        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and tensor.nbytes >= INLINE_BYTES:
                offset, length = self._place(tensor.tobytes())
                value.const_value = ir.ExternalTensor(
                    self.path.name,
                    offset,
                    length,
                    tensor.dtype,
                    shape=tensor.shape,
                    name=value.name,
                    base_dir=self.path.parent,
                )
        self._file.flush()
        ir.save(model, path)

    def _place(self, content: bytes) -> tuple[int, int]:
        """Where the content lies in the file; it is appended if it is new."""
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self._places:
            self._file.write(b"\0" * (-self._file.tell() % ALIGNMENT))
            self._places[digest] = self._file.tell(), len(content)
            self._file.write(content)
        return self._places[digest]
