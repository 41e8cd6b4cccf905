if __name__ != "sparseloom.hdl":
    raise ImportError("import this package as sparseloom.hdl: under a bare name it would be a second copy")
