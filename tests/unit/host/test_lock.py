"""One host for each data folder."""

from __future__ import annotations

import pytest

from local.host.lock import is_hosted, only_host
from shared.errors import Busy


def test_a_folder_is_hosted_while_a_host_holds_it_and_by_one_at_a_time(tmp_path):
    assert not is_hosted(tmp_path)
    with only_host(tmp_path):
        assert is_hosted(tmp_path)
        with pytest.raises(Busy, match="another facerelay serve"), only_host(tmp_path):
            pass
    assert not is_hosted(tmp_path)


def test_a_folder_that_is_not_there_is_hosted_by_nobody(tmp_path):
    assert not is_hosted(tmp_path / "none")
