"""The exported file and how it answers: its form, its runtime, its inputs, replayed evidence."""
