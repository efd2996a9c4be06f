"""Data parallel training over two processes on the CPU gives the gradients of one process."""

# SPDX-License-Identifier: Apache-2.0
import copy
import os
import traceback

import pytest
import torch
import torch.distributed as dist
import yoso
from torch import multiprocessing
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel


def model_and_batch():
    """The same in each process."""
    torch.manual_seed(1)
    layer = yoso.nn.EncoderLayer(
        32, 2, 64, dropout=0.0, batch_first=True, conv_width=3, mode="sampled", num_hashes=8, seed=2
    )
    model = torch.nn.Sequential(layer, copy.deepcopy(layer))
    return model, torch.randn(4, 30, 32)


def loss_of(model, batch):
    """Its mean over equal parts is that of the whole."""
    return model(batch).square().mean() + model(batch)[..., 0].mean()


def data_parallel(model, batch):
    """The gradients as DDP leaves them in each process."""
    wrapped = DistributedDataParallel(model)
    loss_of(wrapped, batch).backward()
    return [p.grad for p in model.parameters()]


def fully_sharded(model, batch):
    """The gradients of FSDP2, put together again."""
    mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    loss_of(model, batch).backward()
    return [p.grad.full_tensor() for p in model.parameters()]


def work(rank, size, address, train, failures):
    """One process of two."""
    try:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=address, rank=rank, world_size=size)
        model, batch = model_and_batch()
        alone = copy.deepcopy(model)
        loss_of(alone, batch).backward()
        got = train(model, batch.chunk(size)[rank])
        for a, b in zip(got, (p.grad for p in alone.parameters())):
            # Float sums in another order.
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    except BaseException:
        failures.put(f"process {rank}: {traceback.format_exc()}")
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    # Not through the end of the interpreter, where a process aborts now and then after FSDP.
    os._exit(0)


@pytest.mark.skipif(not dist.is_available(), reason="torch has no distributed package")
@pytest.mark.parametrize("train", [data_parallel, fully_sharded])
def test_two_processes_have_the_gradients_of_one(tmp_path, train):
    context = multiprocessing.get_context("spawn")
    failures = context.SimpleQueue()
    address = f"file://{tmp_path}/rendezvous"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    processes = [
        context.Process(target=work, args=(rank, 2, address, train, failures)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)  # two cold imports of torch on a busy machine
    still = [process for process in processes if process.is_alive()]
    for process in still:
        process.kill()
    assert failures.empty(), failures.get()
    assert not still, "a process waits for the other one"
    assert [process.exitcode for process in processes] == [0, 0]
