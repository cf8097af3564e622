"""Speed and memory, measured beside what people would use instead."""
