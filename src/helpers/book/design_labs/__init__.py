"""Design labs: a budget, a target, and a function that scores a plan."""
