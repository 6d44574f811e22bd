"""What a person looks at: progress lines, plots and pages."""
