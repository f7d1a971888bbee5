"""The bot beside what one would use instead: the same submissions, the same fakes, one run. See docs/benchmark.md."""
