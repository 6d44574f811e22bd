"""The mixing desk: stems and separated sources at other gains."""
