"""Conversations fail with what was received beside what was expected."""

import pytest

pytest.register_assert_rewrite("tests.conversations.world", "tests.support.wire")
