import pytest

from provisioner.errors import (
    InfeasibleError,
    InputError,
    ModelDoesNotFitError,
    ProvisionerError,
    UnknownNameError,
)


def test_exit_codes():
    assert ProvisionerError.exit_code == InputError.exit_code == UnknownNameError.exit_code == 2
    assert ModelDoesNotFitError.exit_code == 2
    assert InfeasibleError.exit_code == 3
    assert not issubclass(InfeasibleError, InputError)


def test_unknown_name_offers_the_nearest():
    error = UnknownNameError("machine", "h100", ["dgx-a100", "dgx-h100"])
    assert str(error) == "unknown machine 'h100': did you mean dgx-h100? (known: dgx-a100, dgx-h100)"
    assert (error.kind, error.name, error.known) == ("machine", "h100", ("dgx-a100", "dgx-h100"))


@pytest.mark.parametrize(
    ("known", "text"),
    [((), "unknown model 'zzz' (known: none)"), (("a",), "unknown model 'zzz' (known: a)")],
)
def test_unknown_name_without_a_near_one(known, text):
    assert str(UnknownNameError("model", "zzz", known)) == text


def test_infeasible_carries_what_binds_and_what_would_mend_it():
    error = InfeasibleError("no plan", binding="ttft p99", relaxations=["ttft p99 at 0.08 s"])
    assert (str(error), error.binding, error.relaxations) == ("no plan", "ttft p99", ("ttft p99 at 0.08 s",))
