"""What clips are labelled with, and how subjects are split."""
