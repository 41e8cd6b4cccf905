if __name__ != "sparseloom.fpga":
    raise ImportError("import this package as sparseloom.fpga: under a bare name it would be a second copy")
