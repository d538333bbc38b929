"""Questions about the device in use. They are asked of the place where tensors are made, not of how
Paddle was built: a GPU build may well run on a CPU."""

import numpy as np
import paddle


def on_gpu() -> bool:
    """Whether tensors are made on a GPU."""
    return paddle.device.get_device().startswith("gpu")


def has_bfloat16() -> bool:
    """Whether the GPU in use computes in bfloat16."""
    return paddle.amp.is_bfloat16_supported()


def synchronise() -> None:
    """Wait until everything that was queued on a GPU has been computed."""
    if on_gpu():
        paddle.device.synchronize()


def peak_gpu_memory_mb() -> float:
    """The most memory that tensors have taken on the GPU in use."""
    return paddle.device.cuda.max_memory_allocated() / 2**20


def allow_tf32(allowed: bool) -> None:
    """Whether a GPU may compute float32 products in TF32, which has 10 bits of precision.

    Paddle allows it from the start, and has no public function for it: this switch of its core,
    which exists in GPU builds only, is the one that its own tests use.
    """
    if on_gpu():
        paddle.base.core.set_cublas_switch(allowed)


def to_device(array: np.ndarray) -> paddle.Tensor:
    """The array as a tensor on the device in use. On a GPU, through pinned memory, so that the host
    does not wait for the copy: it prepares the next inputs while the GPU computes."""
    if not on_gpu():
        return paddle.to_tensor(array)
    return paddle.to_tensor(array, place=paddle.CUDAPinnedPlace()).cuda(blocking=False)


class HostCopy:
    """A small tensor on its way to the host. What is queued later does not delay it."""

    def __init__(self, tensor: paddle.Tensor):
        self._copy, self._arrived = tensor, None
        if on_gpu():
            self._copy = tensor.to(paddle.CUDAPinnedPlace(), blocking=False)
            self._arrived = paddle.device.Event()
            self._arrived.record()

    def tolist(self) -> list[float]:
        """The numbers; waits until they are there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._copy.tolist()
