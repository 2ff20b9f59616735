"""What a model is: its abstract classes, distributions, objectives and networks."""
