"""The data tree: pure, without a reactor, I/O or a clock."""
