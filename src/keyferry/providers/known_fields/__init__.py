"""The parameters and fields that providers know, and what to say about others. [pure]"""
