"""Run to answers: scores on the store, metrics with intervals, report, verdict on a picture."""
