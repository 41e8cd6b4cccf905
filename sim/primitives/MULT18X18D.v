// Behavioural twin of the ECP5 MULT18X18D cell (Lattice FPGA-TN-02205), in the one form that the gates use: a free-running
// signed multiplier with its input, pipeline and output register, all on CLK0, without cascades. What is not modelled is no port,
// so that connecting it is an error.
module MULT18X18D #(
  parameter REG_INPUTA_CLK = "NONE",
  parameter REG_INPUTA_CE = "CE0",
  parameter REG_INPUTA_RST = "RST0",
  parameter REG_INPUTB_CLK = "NONE",
  parameter REG_INPUTB_CE = "CE0",
  parameter REG_INPUTB_RST = "RST0",
  parameter REG_INPUTC_CLK = "NONE",
  parameter REG_INPUTC_CE = "CE0",
  parameter REG_INPUTC_RST = "RST0",
  parameter REG_PIPELINE_CLK = "NONE",
  parameter REG_PIPELINE_CE = "CE0",
  parameter REG_PIPELINE_RST = "RST0",
  parameter REG_OUTPUT_CLK = "NONE",
  parameter REG_OUTPUT_CE = "CE0",
  parameter REG_OUTPUT_RST = "RST0",
  parameter CLK0_DIV = "ENABLED",
  parameter CLK1_DIV = "ENABLED",
  parameter CLK2_DIV = "ENABLED",
  parameter CLK3_DIV = "ENABLED",
  parameter HIGHSPEED_CLK = "NONE",
  parameter GSR = "ENABLED",
  parameter CAS_MATCH_REG = "FALSE",
  parameter SOURCEB_MODE = "B_SHIFT",
  parameter MULT_BYPASS = "DISABLED",
  parameter RESETMODE = "SYNC"
) (
  input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
  input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
  input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
  input CLK3, CLK2, CLK1, CLK0, CE3, CE2, CE1, CE0, RST3, RST2, RST1, RST0,
  output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15, P14, P13,
    P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
  // Each parameter must have the value written here.
  generate
    if (!(REG_INPUTA_CLK == "CLK0" && REG_INPUTB_CLK == "CLK0" && REG_PIPELINE_CLK == "CLK0" && REG_OUTPUT_CLK == "CLK0"
          && REG_INPUTA_CE == "CE0" && REG_INPUTB_CE == "CE0" && REG_PIPELINE_CE == "CE0" && REG_OUTPUT_CE == "CE0"
          && REG_INPUTA_RST == "RST0" && REG_INPUTB_RST == "RST0" && REG_PIPELINE_RST == "RST0" && REG_OUTPUT_RST == "RST0"
          && REG_INPUTC_CLK == "NONE" && REG_INPUTC_CE == "CE0" && REG_INPUTC_RST == "RST0"
          && CLK0_DIV == "ENABLED" && CLK1_DIV == "ENABLED" && CLK2_DIV == "ENABLED" && CLK3_DIV == "ENABLED"
          && HIGHSPEED_CLK == "NONE" && GSR == "DISABLED" && CAS_MATCH_REG == "FALSE" && SOURCEB_MODE == "B_SHIFT"
          && MULT_BYPASS == "DISABLED" && RESETMODE == "SYNC")) begin : refused
      $fatal(1, "MULT18X18D: a parameter has a value that its twin does not model");
    end
  endgenerate

  wire modelled = SIGNEDA && SIGNEDB && !SOURCEA && !SOURCEB && CE0 && !RST0;
  always @(posedge CLK0) if (!modelled) $fatal(1, "MULT18X18D: an input has a value that its twin does not model");

  reg signed [17:0] a = 0, b = 0;
  reg signed [35:0] pipeline = 0, product = 0;
  always @(posedge CLK0) begin
    a <= {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
    b <= {B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
    pipeline <= a * b;
    product <= pipeline;
  end
  assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16, P15, P14, P13,
    P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = product;
endmodule
