"""The samplers themselves, one method a file: scheduler options and a step count to a StepTable."""
