// Behavioural twin of the UltraScale DSP48E2 slice (AMD UG579, UG974), in the one form that the gates use: a free-running multiplier
// with all its registers, with or without the pre-adder, its sum started from RND or from zero or taken along the PCIN cascade.
// Outputs that are not modelled are no ports, so that connecting one is an error.
module DSP48E2 #(
  parameter integer ACASCREG = 1,
  parameter integer ADREG = 1,
  parameter integer ALUMODEREG = 1,
  parameter AMULTSEL = "A",
  parameter integer AREG = 1,
  parameter AUTORESET_PATDET = "NO_RESET",
  parameter AUTORESET_PRIORITY = "RESET",
  parameter A_INPUT = "DIRECT",
  parameter integer BCASCREG = 1,
  parameter BMULTSEL = "B",
  parameter integer BREG = 1,
  parameter B_INPUT = "DIRECT",
  parameter integer CARRYINREG = 1,
  parameter integer CARRYINSELREG = 1,
  parameter integer CREG = 1,
  parameter integer DREG = 1,
  parameter integer INMODEREG = 1,
  parameter [3:0] IS_ALUMODE_INVERTED = 0,
  parameter [0:0] IS_CARRYIN_INVERTED = 0,
  parameter [0:0] IS_CLK_INVERTED = 0,
  parameter [4:0] IS_INMODE_INVERTED = 0,
  parameter [8:0] IS_OPMODE_INVERTED = 0,
  parameter [0:0] IS_RSTALLCARRYIN_INVERTED = 0,
  parameter [0:0] IS_RSTALUMODE_INVERTED = 0,
  parameter [0:0] IS_RSTA_INVERTED = 0,
  parameter [0:0] IS_RSTB_INVERTED = 0,
  parameter [0:0] IS_RSTCTRL_INVERTED = 0,
  parameter [0:0] IS_RSTC_INVERTED = 0,
  parameter [0:0] IS_RSTD_INVERTED = 0,
  parameter [0:0] IS_RSTINMODE_INVERTED = 0,
  parameter [0:0] IS_RSTM_INVERTED = 0,
  parameter [0:0] IS_RSTP_INVERTED = 0,
  parameter integer MREG = 1,
  parameter integer OPMODEREG = 1,
  parameter PREADDINSEL = "A",
  parameter integer PREG = 1,
  parameter [47:0] RND = 0,
  parameter USE_MULT = "MULTIPLY",
  parameter USE_PATTERN_DETECT = "NO_PATDET",
  parameter USE_SIMD = "ONE48",
  parameter USE_WIDEXOR = "FALSE"
) (
  input CLK,
  input [29:0] A,
  input [29:0] ACIN,
  input [17:0] B,
  input [17:0] BCIN,
  input [47:0] C,
  input [26:0] D,
  input [47:0] PCIN,
  input CARRYCASCIN,
  input MULTSIGNIN,
  input CARRYIN,
  input [2:0] CARRYINSEL,
  input [4:0] INMODE,
  input [8:0] OPMODE,
  input [3:0] ALUMODE,
  input CEA1, CEA2, CEB1, CEB2, CEC, CED, CEAD, CEM, CEP, CECTRL, CEINMODE, CEALUMODE, CECARRYIN,
  input RSTA, RSTB, RSTC, RSTD, RSTM, RSTP, RSTCTRL, RSTINMODE, RSTALUMODE, RSTALLCARRYIN,
  output [47:0] P,
  output [47:0] PCOUT
);
  localparam [0:0] PREADDS = AMULTSEL == "AD";

  // Each attribute is modelled or must have the value written here.
  generate
    if (!((PREADDS || AMULTSEL == "A") && AREG == (PREADDS ? 1 : 2) && ACASCREG == AREG && BREG == 2 && BCASCREG == 2
          && ADREG == 1 && DREG == 1 && CREG == 1 && MREG == 1 && PREG == 1
          && INMODEREG == 0 && OPMODEREG == 0 && ALUMODEREG == 0 && CARRYINREG == 0 && CARRYINSELREG == 0
          && BMULTSEL == "B" && PREADDINSEL == "A" && A_INPUT == "DIRECT" && B_INPUT == "DIRECT" && USE_MULT == "MULTIPLY"
          && USE_SIMD == "ONE48" && USE_WIDEXOR == "FALSE" && USE_PATTERN_DETECT == "NO_PATDET"
          && AUTORESET_PATDET == "NO_RESET" && AUTORESET_PRIORITY == "RESET"
          && {IS_ALUMODE_INVERTED, IS_CARRYIN_INVERTED, IS_CLK_INVERTED, IS_INMODE_INVERTED, IS_OPMODE_INVERTED} == 0
          && {IS_RSTALLCARRYIN_INVERTED, IS_RSTALUMODE_INVERTED, IS_RSTA_INVERTED, IS_RSTB_INVERTED, IS_RSTCTRL_INVERTED,
              IS_RSTC_INVERTED, IS_RSTD_INVERTED, IS_RSTINMODE_INVERTED, IS_RSTM_INVERTED, IS_RSTP_INVERTED} == 0)) begin : refused
      $fatal(1, "DSP48E2: an attribute has a value that its twin does not model");
    end
  endgenerate

  // Each control must have a value of the form modelled: W of RND or 0, Z of PCIN or 0, X and Y the product; D + A2 or A2 alone.
  wire modelled = (OPMODE[8:7] == 2'b00 || OPMODE[8:7] == 2'b10) && (OPMODE[6:4] == 3'b000 || OPMODE[6:4] == 3'b001)
    && OPMODE[3:0] == 4'b0101 && INMODE == (PREADDS ? 5'b00100 : 5'b00000) && ALUMODE == 0 && CARRYINSEL == 0 && !CARRYIN
    && CEA2 && CEB1 && CEB2 && CEM && CEP && (PREADDS ? CED && CEAD : CEA1)
    && !(RSTA || RSTB || RSTC || RSTD || RSTM || RSTP || RSTCTRL || RSTINMODE || RSTALUMODE || RSTALLCARRYIN);
  always @(posedge CLK) if (!modelled) $fatal(1, "DSP48E2: an input has a value that its twin does not model");

  reg signed [26:0] a1 = 0, a2 = 0, d = 0, ad = 0;
  reg signed [17:0] b1 = 0, b2 = 0;
  reg signed [44:0] product = 0;
  reg [47:0] sum = 0;
  always @(posedge CLK) begin
    a1 <= A[26:0];
    a2 <= PREADDS ? A[26:0] : a1;
    d <= D;
    ad <= d + a2;
    b1 <= B;
    b2 <= b1;
    product <= (PREADDS ? ad : a2) * b2;
    sum <= (OPMODE[8] ? RND : 0) + (OPMODE[4] ? PCIN : 0) + {{3{product[44]}}, product};
  end
  assign P = sum;
  assign PCOUT = sum;
endmodule
