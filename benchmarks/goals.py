def section(results):
    return ""
