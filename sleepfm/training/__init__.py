"""Training the encoders."""
