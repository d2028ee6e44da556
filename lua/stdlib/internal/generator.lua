-- The columns of the built-in retail generator (runtime/source/generator.h, weir_generator_avsc): the
-- checks need them before the source opens. A test compares the two texts.
return { schema = [[{}]] }
