"""Laws of the forks that campaigns are made of."""

import torch
from campaigns.processes import Process, ended


def test_a_fork_does_not_wait_for_threads_that_it_has_not():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        (torch.randn(500, 500) @ torch.randn(500, 500)).tanh()  # the threads begin
        work = Process(lambda: (torch.randn(500, 500) @ torch.randn(500, 500)).tanh())
        assert ended(work, 30).code == 0
    finally:
        torch.set_num_threads(before)
