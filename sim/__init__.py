if __name__ != "sparseloom.sim":
    raise ImportError("import this package as sparseloom.sim: under a bare name it would be a second copy")
