"""The training program of the images. backend.py is the part that differs: arithmetic by torch, or by c10 alone."""
