"""What everything else is built on: rank maps, spaces, candidates, seeds, Pareto maths, errors, whole files."""
