"""Steps of the optimisers against their definitions."""

import copy

import pytest
import torch
from torch import nn

from ase_mlcalc.training.optimizers import MuonAdamW, OptimizerConfig, make_optimizer


class Net(nn.Module):
    """One parameter of each kind."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Linear(8, 3)
        self.stack = nn.Parameter(torch.randn(2, 6, 4))
        self.embedding = nn.Embedding(3, 4)
        self.out = nn.Linear(4, 1)


@pytest.fixture
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net()
        for parameter in net.parameters():
            parameter.grad = torch.randn_like(parameter)
        yield net


def change(net, config):
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    make_optimizer(net, config).step()
    return {name: parameter.detach() - before[name] for name, parameter in net.named_parameters()}


def test_matrices_learn_equally_fast_in_all_directions(net):
    changes = change(net, OptimizerConfig(learning_rate=0.01))
    for name, longer in (("wide.weight", 8), ("stack", 6)):
        singular = torch.linalg.svdvals(changes[name]) / (0.01 * longer**0.5)
        # five steps of the iteration take singular values to within about 0.3 of one
        assert singular.min() > 0.6
        assert singular.max() < 1.3
        gradient = dict(net.named_parameters())[name].grad
        assert (changes[name] * gradient).sum() < 0  # downhill
    spread = torch.linalg.svdvals(net.wide.weight.grad)
    assert spread.max() / spread.min() > 1.5  # which was not so in the gradient


def test_the_rest_takes_the_first_step_of_adam(net):
    changes = change(net, OptimizerConfig(learning_rate=0.01))
    for name in ("wide.bias", "embedding.weight", "out.weight", "out.bias"):
        sign = dict(net.named_parameters())[name].grad.sign()
        torch.testing.assert_close(changes[name], -0.01 * sign, rtol=1e-4, atol=1e-7)


def test_adamw_agrees_with_torch_over_many_steps(net):
    ours = make_optimizer(net, OptimizerConfig(optimizer="adamw", learning_rate=0.01, weight_decay=0.1))
    twin = Net()
    twin.load_state_dict(net.state_dict())
    decays = [twin.wide.weight, twin.stack]
    rest = [p for p in twin.parameters() if all(p is not d for d in decays)]
    groups = [{"params": decays, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    theirs = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.99))
    for step in range(5):
        generator = torch.Generator().manual_seed(step)
        for one, other in zip(net.parameters(), twin.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        ours.step()
        theirs.step()
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_state_survives_saving(net):
    config = OptimizerConfig(learning_rate=0.01)
    first = make_optimizer(net, config)
    first.step()
    twin = Net()
    twin.load_state_dict(net.state_dict())
    second = make_optimizer(twin, config)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        other.grad = one.grad.clone()
    first.step()
    second.step()
    for one, other in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_closure_is_refused(net):
    with pytest.raises(ValueError, match="closure"):
        MuonAdamW([{"params": [net.stack], "learner": "adamw", "betas": (0.9, 0.99)}], 0.1).step(lambda: 0.0)
