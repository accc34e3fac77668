"""Labels of clips, and splits of subjects."""
