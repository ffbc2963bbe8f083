"""A request resolved: what is asked, what the model takes, and the plan of its drawing."""
