"""Functions of tensors, compiled by `torch.compile` where that is possible."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

F = TypeVar("F", bound=Callable[..., Any])
ATTEMPTS = 2  # a Ctrl-C ends the compiler, too, and the run goes on to where it is saved
OPTIONS: dict[str, Any] = {
    "fallback_random": True,  # the same noise as without compiling
    "compile_threads": 1,  # no processes of its own, which would outlive a killed run
}


def compiled(
    function: F, say: Callable[[str], None] = lambda text: None, backend: str = "inductor"
) -> F:
    """The same function, compiled when it is first called; for each shape of its arguments anew.

    Results differ from the function's own by rounding alone, and draws are made from the same
    noise. On a processor it needs a C++ compiler, and from some seconds to half a minute; what is
    compiled is kept by PyTorch (in TORCHINDUCTOR_CACHE_DIR) and found again by the next process.
    Where it cannot be compiled the function itself is called from then on, which is said.

    backend: of `torch.compile`; "eager" traces the function, and compiles nothing.
    """
    options = OPTIONS if backend == "inductor" else None
    chosen: list[Callable[..., Any]] = []

    def call(*args: Any) -> Any:
        if chosen:
            return chosen[0](*args)
        for _ in range(ATTEMPTS):
            faster = torch.compile(
                function, fullgraph=True, dynamic=False, backend=backend, options=options
            )
            try:
                result = faster(*args)
            except Exception as error:  # of any kind: PyTorch's, the compiler's, the system's
                reason = error
                continue
            chosen.append(faster)
            return result
        first = str(reason).strip().split("\n")[0][:120]
        say(f"{function.__qualname__} cannot be compiled, and is run as it is ({first})")
        chosen.append(function)
        return function(*args)

    return call  # type: ignore[return-value]
