"""The fairness run: one peer attacks, another one asks now and then and wants its answers; see benchmarks/README.md."""
