"""Linear response of each family of posteriors: variances of its statistics, in coordinates where they are one."""
