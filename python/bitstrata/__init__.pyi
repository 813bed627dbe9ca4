from os import PathLike
from typing import Literal, Optional, Sequence, Union

import numpy
from numpy.typing import NDArray

__version__: str
format_version: int
"""Newest version of the .bst format that the library reads; it reads all older ones too."""

Array = NDArray[numpy.float32]

class Error(RuntimeError):
    code: Literal["invalid-argument", "unsupported", "corrupt-file", "io", "not-found", "bad-input", "out-of-memory", "internal"]

class Tensor:
    """An input or output of a network."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image, without the batch."""

class Layer:
    """One step of a network, in the order in which they run."""

    @property
    def name(self) -> str: ...
    @property
    def op(self) -> str:
        """As "conv", "linear", "max-pool"."""
    @property
    def kernel(self) -> str:
        """As "conv_bitplane__avx2"; "-" for ops without a choice of kernel."""
    @property
    def weight_bits(self) -> int:
        """1 to 8, or 32 for float32; 0 without weights."""
    @property
    def activation_bits(self) -> int:
        """Of the layer's input: 1 to 8, or 32 for float32."""
    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image; 0 but for conv and linear."""
    @property
    def weight_count(self) -> int: ...
    @property
    def weight_bytes(self) -> int:
        """As stored."""

class Model:
    """A packed network, ready to run on this machine. Immutable."""

    def __init__(
        self,
        source: Union[str, PathLike[str], bytes],
        *,
        threads: int = 1,
        max_batch: int = 1,
        isa: Optional[str] = None,
        kernels: Optional[str] = None,
        kernel_times: Union[None, str, PathLike[str]] = None,
    ) -> None:
        """source: path of a .bst file, or its bytes. threads: of one run. max_batch: images of one run. isa: highest instruction set
        to use. kernels: only this family of kernels. kernel_times: choose kernels by measuring, and keep the times in this file."""
    @property
    def input(self) -> Tensor: ...
    @property
    def outputs(self) -> list[Tensor]: ...
    @property
    def layers(self) -> list[Layer]: ...
    @property
    def class_names(self) -> list[str]: ...
    @property
    def mean(self) -> list[float]:
        """Pixels must be (pixel / 255 - mean[c]) / std[c] for channel c; empty: unknown."""
    @property
    def std(self) -> list[float]: ...
    @property
    def macs(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def arena_bytes(self) -> int:
        """Memory of one session."""
    @property
    def threads(self) -> int: ...
    @property
    def max_batch(self) -> int: ...
    @property
    def isa(self) -> str: ...

class Session:
    """One thread of execution over a model, whose memory it owns. A call while another thread is inside raises Error."""

    def __init__(self, model: Model) -> None: ...
    def run(self, images: Array, out: Union[None, Array, Sequence[Array]] = None) -> Union[Array, list[Array]]:
        """Runs images [n, *model.input.shape], float32; 1 <= n <= max_batch. Returns [n, *shape] float32: one array for a network with
        one output, else a list. Read in place when C-contiguous, else copied. out: where the results go, C-contiguous and writable."""
