"""Failures of the brokers' suite are shown as those of a test file."""

import pytest

pytest.register_assert_rewrite("tests.runtime.jobs.conformance")
