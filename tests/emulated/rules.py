"""What holds for the tensors of a GPU, asked of the emulated ones; says `held`, or fails."""

import torch
from device import emulated


def fails(what):
    try:
        what()
    except (RuntimeError, TypeError):
        return True
    return False


with emulated() as device:
    here = torch.arange(6.0).view(2, 3)
    there = here.to(device)

    # computed there, with the values of the CPU
    assert there.device == device and (there @ there.T).device == device
    assert torch.equal((there @ there.T).cpu(), here @ here.T)
    assert there.sum().item() == 15 and there[1].tolist() == [3, 4, 5]
    assert torch.tensor([1, 2], device=device).device == torch.zeros(2, device=device).device == device

    # views share memory; what was moved does not
    there[0].zero_()
    assert there.tolist()[0] == [0, 0, 0] and here.tolist()[0] == [0, 1, 2]

    # numbers and indices may lie on the CPU
    assert (there * torch.tensor(2.0)).device == device
    assert there[torch.tensor([1])].tolist() == there[[1]].tolist() == [[3, 4, 5]]

    weight = torch.nn.Linear(3, 1).to(device).weight
    (weight @ there.T).sum().backward()
    assert weight.grad.tolist() == [[3, 4, 5]] and weight.grad.device == device

    # nothing else may be mixed
    assert fails(lambda: here + there)
    assert fails(lambda: torch.nn.Linear(3, 1)(there))
    assert fails(lambda: here[torch.tensor([1], device=device)])
    assert fails(lambda: there.index_put_((torch.tensor([0]),), here[0]))
    assert fails(lambda: torch.randn(2, device=device, generator=torch.Generator()))
    assert fails(there.numpy)

print("held")
