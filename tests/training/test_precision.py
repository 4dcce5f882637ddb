import torch

from rank_search.training.precision import frozen_weights_in, training_dtype


def test_training_computes_in_what_the_device_has(monkeypatch) -> None:
    cpu = torch.device("cpu")
    for has, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda has=has: {"avx512_bf16": has})
        assert training_dtype("auto", cpu) == expected
    assert training_dtype("float32", cpu) == torch.float32
    assert training_dtype("bfloat16", cpu) == torch.bfloat16


def test_only_frozen_float32_weights_change_their_type() -> None:
    model = torch.nn.ModuleDict({"frozen": torch.nn.Linear(2, 2), "short": torch.nn.Linear(2, 2).half()})
    model.requires_grad_(False)
    model["trained"] = torch.nn.Linear(2, 2)
    frozen = model["frozen"].weight.clone()
    with frozen_weights_in(model, torch.bfloat16):
        types = [model[name].weight.dtype for name in ("frozen", "short", "trained")]
        assert types == [torch.bfloat16, torch.float16, torch.float32]
    assert torch.equal(model["frozen"].weight, frozen)
