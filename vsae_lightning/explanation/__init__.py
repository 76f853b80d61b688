"""What a language model says of features: explanations in one line, and scores of how well they tell where one fires.

It reads a report that is there, and asks any endpoint that speaks OpenAI's chat protocol; nothing else needs it.
"""
