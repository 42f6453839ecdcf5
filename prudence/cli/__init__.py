"""The command and the functions behind `import prudence`."""
