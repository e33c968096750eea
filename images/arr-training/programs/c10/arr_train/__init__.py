"""The training program: a line is fitted to noisy points, with arithmetic by c10 alone."""
