if __name__ != "sparseloom.perfmodel":
    raise ImportError("import this package as sparseloom.perfmodel: under a bare name it would be a second copy")
