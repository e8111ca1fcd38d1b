"""What a person sees of a job: its events as a story, a live screen, or lines."""
