"""What an agent foresees, beside what came; where its time and costs go; films."""
