"""Laws and those whom they concern, as parameters of a test: one test for each."""

import itertools

import pytest


def every_law_of(laws, cases, variants=()):
    """Parameters `law`, `case`, `setting`: each law, of each case that it concerns, in each of its
    settings. cases: by name; variants: those which differ from another one in a part alone, and
    are checked in the last setting."""
    found = []
    for law, case in itertools.product(laws, cases.values()):
        if law.concerns(case):
            for setting in law.settings[-1:] if str(case) in variants else law.settings:
                said = [f"{key}={value}" for key, value in setting.items()]
                names = "-".join([law.name, str(case), *said])
                found.append(pytest.param(law, case, setting, id=names))
    return pytest.mark.parametrize(("law", "case", "setting"), found)


def broken(laws, case):
    """The names of the laws that a case breaks."""
    return {law.name for law in laws if _is_broken(law, case)}


def _is_broken(law, case):
    try:
        law.check(case)
    except AssertionError:
        return True
    return False
