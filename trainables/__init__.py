"""What a config is worth: data, descriptors, physics, networks, training, scores.  No Ray here."""
