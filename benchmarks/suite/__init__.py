"""The benchmark suite: who is measured, how one sample is taken, what is made of the samples."""
