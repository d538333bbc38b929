"""Paddle computes, and how fast a float32 matmul is with the environment it was started in."""

import time

import paddle


def main() -> None:
    paddle.set_device("cpu")
    size, repeats = 1024, 5
    a = paddle.rand([size, size])
    expected = a.numpy() @ a.numpy()
    assert abs(paddle.matmul(a, a).numpy() - expected).max() < 1e-2, "matmul is wrong"
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        paddle.matmul(a, a).numpy()
        best = min(best, time.perf_counter() - began)
    gpu = f"{paddle.device.cuda.device_count()} GPU" if paddle.is_compiled_with_cuda() else "CPU"
    print(f"{gpu} build; float32 matmul {2 * size**3 / best / 1e9:.0f} GFLOP/s on the CPU")


if __name__ == "__main__":
    main()
