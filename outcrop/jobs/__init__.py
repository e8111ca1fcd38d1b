"""The first loop: jobs from the store to child processes and back."""
