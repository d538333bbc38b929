"""Fleet ranks start and agree on a sum. Run by `python -m paddle.distributed.launch`."""

import paddle
from paddle.distributed import fleet


def main() -> None:
    fleet.init(is_collective=True)
    rank, size = paddle.distributed.get_rank(), paddle.distributed.get_world_size()
    total = paddle.to_tensor([float(rank + 1)])
    paddle.distributed.all_reduce(total)
    assert float(total) == size * (size + 1) / 2, (rank, size, float(total))
    if rank == 0:
        backend = "NCCL" if paddle.device.get_device().startswith("gpu") else "Gloo"
        print(f"{size} rank(s) summed their numbers over {backend}", flush=True)


if __name__ == "__main__":
    main()
