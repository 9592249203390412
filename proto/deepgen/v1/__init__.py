"""The wire: protobuf contracts of DeepGen; the generated code lies beside this file after the install."""
